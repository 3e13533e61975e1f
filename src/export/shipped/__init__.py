"""Programs that export copies into `models/export`. They import nothing of ours."""
