"""What the sync and the async client share: requests, answers, errors, decisions. No socket, no clock."""
