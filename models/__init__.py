"""What is remembered: the tables, their queries and the moves between states.

Holds: SQLModel tables, the SQL that moves a row, the queries behind every face, triggers (pure arithmetic on time).
Must not: read the environment, know a broker, a web framework or an actor. Everything arrives as an argument.
"""
