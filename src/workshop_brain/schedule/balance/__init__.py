"""Line balancing, model sequence and release: who does what at which station, in which order.

``line`` is the problem, ``read`` reads it from files, ``solve`` and ``rebalance`` balance it,
``verify`` checks a balance independently, ``sequence`` orders mixed models, ``release`` says when
the next unit may enter. Import the module you need: those with kernels load numba.
"""
