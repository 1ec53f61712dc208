"""The worker: one Python process that runs an app for the BEAM. Apps never import it."""
