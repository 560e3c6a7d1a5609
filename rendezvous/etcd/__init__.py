"""A thin client of etcd's v3 API over grpc.aio."""

from rendezvous.etcd.access import Access
from rendezvous.etcd.client import EtcdClient
from rendezvous.etcd.deadlines import Deadlines

__all__ = ["Access", "Deadlines", "EtcdClient"]
