"""Values: what a tensor's elements are before they are coded."""
