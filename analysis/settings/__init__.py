"""What a sweep varied, and what came of it.

varied.py     which settings differ between runs (by the rule of analysis/logs/groups.py), and each run's values
matched.py    runs that are equal in everything but one setting
effects.py    differences in loss between its values, with intervals from repeated seeds
optimum.py    the best value between those tried, and whether it moves with size
verdict.py    what that comes to, in words
answers.py    all of it for a sweep: what the report and the command show
"""
