"""One file, one claim: a Config, `main(config) -> result`, `plot(result)`."""
