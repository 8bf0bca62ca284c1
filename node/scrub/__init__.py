"""Reading all that is stored, to find damage before anybody needs what it has hit."""
