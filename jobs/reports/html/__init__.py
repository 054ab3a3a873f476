"""What people look at: a report document as one self-contained HTML page."""
