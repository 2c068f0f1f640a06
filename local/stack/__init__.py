"""The laptop stack: the real engines, the programs that make up the stack, and the show of its main job."""
