"""Servers: what is asked over HTTP. FastAPI and uvicorn are the extra `serve`."""
