"""Orders and plans from and to other systems: CSV, Excel, PyJobShop, B2MML, JSON."""

from workshop_brain.schedule.exchange.b2mml import schedule_document
from workshop_brain.schedule.exchange.document import FORMAT, orders_problem
from workshop_brain.schedule.exchange.orders import orders_document
from workshop_brain.schedule.exchange.plans import read_plan, write_plan
from workshop_brain.schedule.exchange.pyjobshop import is_problem_data, problem_data_document

__all__ = [
    "FORMAT", "is_problem_data", "orders_document", "orders_problem", "problem_data_document",
    "read_plan", "schedule_document", "write_plan",
]  # fmt: skip
