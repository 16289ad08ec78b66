"""What each route does: parse, call one thing, say what came of it."""
