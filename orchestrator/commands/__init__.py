"""One file per verb: arguments and printing only. The file's name is the verb."""
