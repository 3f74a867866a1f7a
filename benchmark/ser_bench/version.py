"""The version of ser-bench; every record names it."""

VERSION = "0.1.0"
