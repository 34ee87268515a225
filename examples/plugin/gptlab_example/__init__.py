"""Variants for gptlab: their code here, their YAMLs in conf/."""
