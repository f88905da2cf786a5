"""The page and the programs' interface: search by photo, words and concepts, and see why."""
