"""Training of networks; knows neither scikit-learn nor skorch."""
