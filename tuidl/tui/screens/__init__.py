"""The screens: Home, Set-up, Dashboard, and the small dialogs in front of them."""
