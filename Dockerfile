# A machine on which the tests run: docker build -t moe-replay . && docker run --rm moe-replay
FROM python:3.12-slim

RUN apt-get update && apt-get install --yes --no-install-recommends git && rm -rf /var/lib/apt/lists/*
WORKDIR /moe-replay
COPY . .
CMD ["./RUNME.sh", "test"]
