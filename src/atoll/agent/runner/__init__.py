"""The Python side of the seed channel and the context stream (docs/agent-protocol.md).

    zygote   preload.py   imports what the template preloads, freezes; still outside every sandbox
      └─ seed   seed.py   forked into a sandbox, root of its user namespace; never runs user code
           └─ context   context.py   forked from the seed, drops to the user, runs cells
           └─ context   kernel.py    the same for a Jupyter kernel: a bridge to it (kernel_specs, kernel_process,
                                     kernel_link, kernel_env, kernel_quirks)

    context.py → cells.py → display.py, figures.py, magics.py, tracebacks.py → channel.py → the agent

It is imported by the *template's* Python, so: standard library only, Python 3.9 syntax, and of Atoll
only `wire.frames`. numpy, pandas, matplotlib, plotly, IPython, jupyter_client and pyzmq are used when the template
has them.
A context is as hostile as the code that it runs; whatever it sends is checked by the agent.
"""
