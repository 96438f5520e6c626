"""Scans over parameters: one atomic file a point, any executor, and the same call resumes."""
