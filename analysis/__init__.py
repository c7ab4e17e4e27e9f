"""What came back: records -> tidy frames -> tables, figures, terminal text and a report. Reads records only."""
