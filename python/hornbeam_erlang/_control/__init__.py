"""Those who operate a server: which one is meant, and what they ask of it by its local socket."""
