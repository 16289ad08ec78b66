"""Atoll for agent hosts: sandboxes as tools of the Model Context Protocol."""
