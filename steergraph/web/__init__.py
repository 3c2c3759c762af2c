"""Servers: what is asked over HTTP. Imports of starlette and uvicorn stay inside the modules that serve."""
