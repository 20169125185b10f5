"""ccproxy: the proxy between Clear Containers runtimes, shims and virtual machines."""
