"""The parts of the drill: drill.py at the side of this folder is the command."""
