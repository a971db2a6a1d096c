"""Studies: many recipes under one declared endpoint, chosen on some rows and judged once on others."""
