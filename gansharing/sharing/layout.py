"""Which process trains which domains."""

from dataclasses import dataclass

from gansharing.errors import UserError


@dataclass(frozen=True)
class DomainLayout:
    """Domains dealt to processes: a function of their numbers alone, the same on every process.

    With fewer processes than domains each has a run of consecutive domains, whose lengths differ by one at
    most. With k times as many, k consecutive processes share a domain: they split its batch.

    Args:
        domains: Number of domains.
        world: Number of processes.

    Raises:
        UserError: More processes than domains, but no multiple of them.
    """

    domains: int
    world: int = 1

    def __post_init__(self) -> None:
        if self.world > self.domains and self.world % self.domains:
            below = self.world // self.domains * self.domains
            raise UserError(
                f"{self.world} processes for {self.domains} domains: give at most {self.domains}, or a "
                f"multiple such as {below} or {below + self.domains}, so that each domain has as many"
            )

    @property
    def replicas(self) -> int:
        """Processes that share a domain: 1, or more where there are more processes than domains."""
        return max(1, self.world // self.domains)

    def of(self, rank: int) -> range:
        """The domains of a process."""
        if self.world <= self.domains:
            return range(rank * self.domains // self.world, (rank + 1) * self.domains // self.world)
        domain = rank // self.replicas
        return range(domain, domain + 1)

    def ranks(self, domain: int) -> list[int]:
        """The processes of a domain, in order; the first one owns it."""
        return [rank for rank in range(self.world) if domain in self.of(rank)]

    def replica(self, rank: int) -> int:
        """Which part of its domain's batch a process has."""
        return rank % self.replicas
