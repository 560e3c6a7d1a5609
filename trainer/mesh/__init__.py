"""From a job and the nodes there are to a mesh, or the reason why there is none. Pure."""
