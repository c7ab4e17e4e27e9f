"""Text and tokens: from installed sources or folders to deduplicated, split, tokenised corpora and their reader."""
