"""HTML pages: one file each that works offline, in light and dark mode; they need the extra `report`."""
