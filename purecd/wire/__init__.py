# SPDX-License-Identifier: Apache-2.0
"""HTTP/2, gRPC and TLS between bytes and events: no I/O, no clock, nothing of etcd.

headers blocks grpc status          header blocks out and in; messages and statuses in
http2 receiving connection          one connection: commands, frames in, state
streams windows output settings     its streams, flow control, octets out, the server's settings
frames faults                       octets of single frames; the exception for broken rules
tls                                 TLS on memory buffers, below all of it
"""
