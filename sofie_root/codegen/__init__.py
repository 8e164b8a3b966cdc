"""The generated header: the Session struct, its weights, and the kernels it uses."""
