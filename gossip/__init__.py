"""Who is believed to be alive: SWIM over HTTP. It decides liveness only, never ownership."""
