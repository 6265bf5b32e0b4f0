"""What a run tells: `schema` is report.json, `terminal` prints it for people, `progress` shows what is going on."""
