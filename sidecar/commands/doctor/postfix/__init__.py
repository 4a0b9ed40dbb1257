"""The checks of Postfix: its settings, its tables, and one module for each subject."""
