# SPDX-License-Identifier: Apache-2.0
"""HTTP/2, gRPC and TLS between bytes and events: no I/O, no clock, nothing of etcd.

headers grpc status     requests out, messages and statuses in
http2 streams windows   one connection, its streams, flow control
frames settings         octets of single frames
tls                     TLS on memory buffers, below all of it
"""
