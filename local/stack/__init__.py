"""The laptop stack: the real engines, the programs around them, and the show of the project's main job."""
