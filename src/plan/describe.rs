//! A plan as a page of text, 80 columns wide, for `--dry-run` and `check`.
