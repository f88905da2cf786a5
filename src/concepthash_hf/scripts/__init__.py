"""What the scripts in examples/ do, with their arguments: `main(words)`; the command `concepthash` calls them too."""
