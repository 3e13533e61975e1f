"""What is copied into `models/export` as it is: these files import nothing of ours."""
