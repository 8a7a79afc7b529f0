class Profile:
    def __init__(self): self.n=0
    def clear(self): pass
    def access(self,*a): pass
    def barrier(self,*a): pass
    def merge(self,*a): pass
