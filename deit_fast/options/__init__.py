"""Values of options: read from YAML files and the command line, converted to their types, and described."""
