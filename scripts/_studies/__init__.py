"""The two studies that fastxai was built for: `scripts/study_agreement` and `scripts/study_lime_steps`."""
