"""The only room that knows torch. Import its modules by name; nothing is loaded here."""
