"""Many commands of `nldf` at once: read and checked together, run by processes here or on a Ray cluster.

    jobs = read_jobs(Path("jobs.yaml"))                   # every one checked before any starts
    tasks = plan(jobs, Path("jobs.batch"), stretch=60.0)  # long renders in stretches, and what joins them
    report = run_tasks(tasks, Processes(workers=2), Path("jobs.batch"))

`jobs` is what a person writes, `tasks` what runs: a process each (`work`). `processes` and `cluster` start
them, `run` keeps the order, the record of what is done, and the progress.
"""
