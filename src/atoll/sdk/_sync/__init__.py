"""The sync client. Generated from `_async` by scripts/unasync: change it there."""
