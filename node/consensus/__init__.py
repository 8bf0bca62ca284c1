"""In which order a group's keys change."""
