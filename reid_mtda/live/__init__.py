"""From running cameras to sightings, and from a picture to its answer; no torch."""
