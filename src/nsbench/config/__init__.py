"""What a user may set, section by section: frozen, closed models; loading of files; error messages."""
