"""What a replica gets that the log can't help any more: a group's rows, as one engine view holds them."""
