"""Results for people: pictures of results, and pages that stand alone."""
