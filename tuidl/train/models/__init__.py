"""The models, built from the settings in `tuidl.spec.models`."""
